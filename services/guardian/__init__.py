"""The guardian: reads what the routers report and decides when to go back."""
