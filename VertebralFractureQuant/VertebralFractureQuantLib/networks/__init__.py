"""The networks of the method, their weights, and the interface to the engines that run them.

torch and OpenVINO are imported only where they are used.
"""
