"""Addresses of the counter."""

from django.urls import path

from counter import views

urlpatterns = [path("cases/", views.accept), path("feedback/", views.feedback), path("sync/", views.sync)]
