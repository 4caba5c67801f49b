"""The roles, as groups of Django's own permissions. They can be changed in the admin."""

from django.db import migrations

VIEWER = ["execution.view"]
STARTER = [*VIEWER, "execution.add"]
OPERATOR = [*STARTER, "execution.change", "apitoken.view", "apitoken.add", "apitoken.delete"]
ROLES = {"viewer": VIEWER, "starter": STARTER, "operator": OPERATOR}


def make_roles(apps, schema_editor):
    for role, permissions in ROLES.items():
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=role)
        group.permissions.add(*(_permission(apps, *each.split(".")) for each in permissions))


def _permission(apps, model, verb):
    # Django itself makes them only once all migrations are done, and then finds these.
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="executions", model=model
    )
    name = apps.get_model("executions", model)._meta.verbose_name
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type,
        codename=f"{verb}_{model}",
        defaults={"name": f"Can {verb} {name}"},
    )
    return permission


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("executions", "0005_access"),
    ]
    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
