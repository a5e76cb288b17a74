"""What the actuator sees to by itself, whatever becomes of broker and database: those nobody could command it about."""
