"""Plans in other people's trainers; each module is imported only by those who use that library."""
