"""Does changing only the backbone work? The methods of the installed toolboxes, each with another backbone put in."""
