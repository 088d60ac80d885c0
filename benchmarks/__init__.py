"""What measures quality, speed and memory, against peers and floors, in one run."""
