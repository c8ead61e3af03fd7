"""SPF, and the policy service that judges by it."""
