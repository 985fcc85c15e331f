"""Measurements and trainings on a rented accelerator: queue, time budget, transfer of files, records."""
