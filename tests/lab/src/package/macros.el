# What a spec of Enterprise Linux finds there and Debian's rpm lacks.
%_unitdir /usr/lib/systemd/system
%_presetdir /usr/lib/systemd/system-preset
%_sharedstatedir /var/lib
%systemd_requires \
Requires(post): systemd \
Requires(preun): systemd \
Requires(postun): systemd \
%{nil}
%systemd_post() \
if [ $1 -eq 1 ] && [ -x /usr/lib/systemd/systemd-update-helper ]; then \
    /usr/lib/systemd/systemd-update-helper install-system-units %{?*} || : \
fi \
%{nil}
%systemd_preun() \
if [ $1 -eq 0 ] && [ -x /usr/lib/systemd/systemd-update-helper ]; then \
    /usr/lib/systemd/systemd-update-helper remove-system-units %{?*} || : \
fi \
%{nil}
%systemd_postun() %{nil}
