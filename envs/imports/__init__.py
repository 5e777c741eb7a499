"""From the files that engineers have to one plain table of VM history (``hvgym import``)."""
