"""What every room may use: errors, files, checks of arguments, pictures, and what command lines share."""
