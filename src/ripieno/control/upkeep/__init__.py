"""What is done beside the calls: cuts, promotions, cancellations, clearing up."""
