"""The networks of the method, their weights, and the seam to the engines that run them; torch and OpenVINO are imported
by the modules inside, where they are used."""
