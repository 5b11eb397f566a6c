"""Results that no task makes: clients create, upload, import and delete them."""
