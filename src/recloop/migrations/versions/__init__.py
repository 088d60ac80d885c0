"""The revisions. What one has once done to a database it must do for ever: they import no table that moves on."""
