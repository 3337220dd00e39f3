"""How every published figure is computed: matching with a truth or a reference, errors, speed and memory."""
