/* A plugin that allows everything. It shows what any plugin costs the broker. */

int mosquitto_callback_register(void *plugin, int event, int (*callback)(int, void *, void *),
	const void *data, void *userdata);

static int allow(int event, void *data, void *userdata)
{
	(void)event, (void)data, (void)userdata;
	return 0;
}

int mosquitto_plugin_version(int count, const int *versions)
{
	(void)count, (void)versions;
	return 5;
}

int mosquitto_plugin_init(void *plugin, void **userdata, void *options, int count)
{
	(void)userdata, (void)options, (void)count;
	/* MOSQ_EVT_ACL_CHECK, MOSQ_EVT_BASIC_AUTH */
	return mosquitto_callback_register(plugin, 2, allow, 0, 0)
		+ mosquitto_callback_register(plugin, 3, allow, 0, 0);
}

int mosquitto_plugin_cleanup(void *userdata, void *options, int count)
{
	(void)userdata, (void)options, (void)count;
	return 0;
}
