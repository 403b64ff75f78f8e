"""Everything that runs the system in production; nothing else imports it."""
