"""TensorBoard's event files, read by their format."""


def values(folder):
    """[((folder, tag), step, summary value)] of all event files below a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.rglob("events.*")):
        data = path.read_bytes()
        while data:  # a record: length (8 bytes), its checksum (4), the event, its checksum (4)
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            where = path.parent.relative_to(folder).as_posix()
            found += [((where, value.tag), event.step, value) for value in event.summary.value]
            data = data[16 + length :]
    return found
