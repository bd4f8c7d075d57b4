"""What leaves for other systems: a score as SQL, and tables in a lakehouse."""
