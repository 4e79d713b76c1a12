from flask import Flask, abort, request

from shop.models import Customer, Order, Product, db


def create_app(url):
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db.init_app(app)

    @app.get("/products/<int:product>")
    def show(product):
        found = db.get_or_404(Product, product)
        return {"name": found.name, "cents": found.cents, "stock": found.stock}

    @app.post("/orders")
    def order():
        wanted = request.get_json()
        product = db.session.get(Product, wanted["product"])
        if product is None or db.session.get(Customer, wanted["customer"]) is None:
            abort(404)
        if product.stock < wanted["amount"]:
            abort(409)
        product.stock -= wanted["amount"]
        made = Order(customer_id=wanted["customer"], product_id=product.id, amount=wanted["amount"])
        db.session.add(made)
        db.session.commit()
        return {"id": made.id, "cents": product.cents * made.amount}, 201

    @app.delete("/customers/<int:customer>")
    def forget(customer):
        db.session.query(Order).filter_by(customer_id=customer).delete()
        db.session.query(Customer).filter_by(id=customer).delete()
        db.session.commit()
        return "", 204

    @app.get("/turnover")
    def turnover():
        rows = db.session.query(Order.amount * Product.cents).join(
            Product, Product.id == Order.product_id
        )
        return {"cents": sum(cents for (cents,) in rows)}

    return app
