"""Programs with and without faults, each with what the sensors have to say of it."""
