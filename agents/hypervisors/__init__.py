"""What runs in hypervisors and beside them today: balloon controllers of products, and the daemons around KVM and Xen.
Each file follows its original, named in its docstring; a surrogate says so."""
