"""Reference systems: what is moved from (`flat`) and to (`hierarchical`), and a network that lives there (`digits`)."""
