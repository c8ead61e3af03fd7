"""What a site says about itself: variables → Settings, or every fault at once."""
