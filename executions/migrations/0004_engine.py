import uuid

from django.db import migrations, models


def name_installation(apps, schema_editor):
    apps.get_model("executions", "Installation").objects.create()


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0003_output_left_out"),
    ]

    operations = [
        migrations.CreateModel(
            name="Installation",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
            ],
        ),
        migrations.RunPython(name_installation, migrations.RunPython.noop),
        migrations.AddField(
            model_name="execution",
            name="engine",
            field=models.CharField(
                help_text="The Docker Engine that has its container; null if it is a process.",
                max_length=255,
                null=True,
            ),
        ),
    ]
