"""How results are shown: tables, pages, figures, films. Knows estimates, and no verb."""
