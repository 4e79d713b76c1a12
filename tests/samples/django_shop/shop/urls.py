from django.urls import path

from shop import views

urlpatterns = [
    path("products/", views.products),
    path("orders/<int:number>/pay/", views.pay),
]
