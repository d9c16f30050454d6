"""Object stores, files of rows and Ray: what needs the extra `ray`."""
