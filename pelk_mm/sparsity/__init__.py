"""Dynamic sparse training: masks that move while a net learns (PeLK, section 4.4; SLaK; SW)."""
