"""The requests and answers of the API as values. Pure: nothing here touches the network, a clock or randomness."""
