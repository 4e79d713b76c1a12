from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from booking.database import session
from booking.models import Booking, Guest, Room

app = FastAPI()
PRICE = 30

Database = Annotated[AsyncSession, Depends(session)]


@app.get("/rooms/{room}")
async def show(room: int, database: Database) -> dict[str, object]:
    found = await database.get(Room, room)
    if found is None:
        raise HTTPException(404, "no such room")
    days = sorted(booking.day for booking in found.bookings)
    return {"name": found.name, "seats": found.seats, "days": days}


@app.get("/counts")
async def counts(database: Database) -> dict[str, int]:
    return {
        kind.__tablename__: await database.scalar(select(func.count(kind.id)))
        for kind in (Room, Guest, Booking)
    }


@app.post("/rooms/{room}/bookings", status_code=201)
async def book(room: int, guest: int, day: int, database: Database) -> dict[str, int]:
    payer = await database.get(Guest, guest)
    if payer is None or await database.get(Room, room) is None:
        raise HTTPException(404, "no such room or guest")
    if payer.credit < PRICE:
        raise HTTPException(402, "no credit left")
    payer.credit -= PRICE
    made = Booking(room_id=room, guest_id=guest, day=day)
    database.add(made)
    try:
        await database.commit()
    except IntegrityError as error:
        await database.rollback()
        raise HTTPException(409, "taken") from error
    return {"id": made.id, "credit": payer.credit}


@app.delete("/rooms/{room}", status_code=204)
async def close(room: int, database: Database) -> None:
    found = await database.get(Room, room)
    if found is not None:
        for booking in found.bookings:
            await database.delete(booking)
        await database.delete(found)
        await database.commit()
