"""What runs on a client's machine: it makes the files and settings that lead stock clients through the gateway."""
