def rooms_and_guests(conn):
    conn.executemany(
        "INSERT INTO room (name, seats) VALUES (?, ?)",
        [(f"room {number}", 4 + number % 9) for number in range(1, 41)],
    )
    conn.executemany(
        "INSERT INTO guest (name, credit) VALUES (?, 100)",
        [(f"guest {number}",) for number in range(1, 101)],
    )
    conn.execute("INSERT INTO booking (room_id, guest_id, day) VALUES (1, 1, 1)")
    conn.commit()
