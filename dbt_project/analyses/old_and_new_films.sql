-- Are old films rated better than new ones?
select
    decade,
    count(*) as films,
    sum(rating_count) as ratings,
    round(sum(rating_count * rating_mean) / sum(rating_count), 3) as rating_mean
from {{ ref('dim_movies') }}
where rating_count > 0 and decade is not null
group by decade
order by decade
