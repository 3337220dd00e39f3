"""How every published figure is computed: agreement with references and among experts, speed, and memory."""
