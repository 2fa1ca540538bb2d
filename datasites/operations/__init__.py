"""What an operator needs: backup, restore, the control socket, metrics, exports."""
