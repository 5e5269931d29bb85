"""What can be trained: each file builds network, data, loss and validation of one kind of training from its part of a configuration."""
