"""Model families: a file each, holding what sets the family apart."""
