"""What every run needs: processes, precision, optimizer, checkpoints, run directory, log, plan."""
