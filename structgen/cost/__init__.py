"""What a fold costs, known before it runs: seconds and bytes from the sizes of the job and of the network, calibrated on the machine."""
