"""Routes of files of rows, and of refused rows."""
