"""TestCase: each test in a transaction that is rolled back; rows of data migrations stay."""

from catalog.models import Category, Label, Product
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, TestCase
from places.models import Place


class Products(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.label = Label.objects.create(text="new")
        for product in Product.objects.filter(category__name="books"):
            product.labels.add(cls.label)

    def test_rows_of_migrations_are_there(self):
        self.assertEqual(Category.objects.count(), 5)
        self.assertEqual(Product.objects.count(), 25)
        self.assertEqual(Product.objects.get(pk=1).slug, "books-1")
        self.assertEqual(Place.objects.filter(code="00007").get().region, "00")

    def test_what_the_class_has_made_is_there(self):
        self.assertEqual(self.label.product_set.count(), 5)
        self.label.text = "changed in this test alone"

    def test_and_is_the_same_for_each_test(self):
        self.assertEqual(self.label.text, "new")

    def test_a_deleted_product(self):
        Product.objects.filter(slug="toys-5").delete()
        self.assertEqual(Product.objects.count(), 24)

    def test_is_back(self):
        self.assertEqual(Product.objects.count(), 25)

    def test_number_of_queries(self):
        with self.assertNumQueries(1):
            self.assertEqual(len(Client().get("/products/").json()["products"]), 25)

    def test_permissions_of_a_user(self):
        user = User.objects.create_user("Ada")
        user.user_permissions.add(Permission.objects.get(codename="change_product"))
        self.assertTrue(user.has_perm("catalog.change_product"))

    def test_sessions(self):
        user = User.objects.create_user("Grace", password="secret")
        client = Client()
        client.force_login(user)
        self.assertEqual(client.session["_auth_user_id"], str(user.pk))

    def test_the_database_is_in_memory(self):
        self.assertTrue(connection.is_in_memory_db())


class Labels(TestCase):
    fixtures = ["labels"]

    def test_of_the_fixture(self):
        self.assertEqual(list(Label.objects.values_list("text", flat=True)), ["cheap", "large"])

    def test_are_the_same_again(self):
        Label.objects.all().delete()
        self.assertFalse(Label.objects.exists())
