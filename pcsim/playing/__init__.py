"""How runs are played: ``play`` ticks, ``part`` records one run, ``scale`` measures."""
