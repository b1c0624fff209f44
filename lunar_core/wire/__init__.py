"""What the API says, as values. Pure: nothing here touches the network, a clock or randomness."""
