"""What the router chooses from in these tests, and for what: two models, and a prompt for each of them."""

PAIR = ["gpt-4o", "gpt-4o-mini"]
HARD, EASY = "Prove that there are infinitely many primes", "Say hi"
