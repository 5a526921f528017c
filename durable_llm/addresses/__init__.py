"""What the URLs of settings name: directories and servers. A password is never part of a URL."""
