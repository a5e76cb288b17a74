"""What outlives a process: documents, leases, row segments, artefact bytes, and the announcements inside documents."""
