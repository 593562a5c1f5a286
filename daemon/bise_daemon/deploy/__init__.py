"""What a device needs beside the daemon: units, a user, folders, and the command that puts them there."""
