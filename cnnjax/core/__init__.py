"""What every other part uses: files, paths, options, random keys, the runtime's settings, the terminal."""
