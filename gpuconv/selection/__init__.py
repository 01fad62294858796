"""Which method and backend run a problem: refuse, price, choose."""
