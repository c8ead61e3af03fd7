"""A private Internet in which stacks are tried out: a name server, an edge network, stacks, hosts beside them."""
