"""The only room that touches the network: two clients, alike but for ``await``, and what they share."""
