"""What is read: results, statuses, lists, reasons, and checks that the store agrees with itself."""
